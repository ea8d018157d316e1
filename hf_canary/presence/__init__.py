"""Did the canaries reach the model, and behind what? Looks at tokenised rows and labels."""

from .check import check_presence as check_presence
from .report import Presence as Presence
