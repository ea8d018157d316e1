"""What a measurement within a training needs: when, at what cost, behind what, and what is written where."""
