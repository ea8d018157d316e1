"""Did the canaries reach the model, and behind what? Looks at tokenised rows and labels."""

from .check import Presence as Presence
from .check import check_presence as check_presence
