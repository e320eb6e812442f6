"""Who is on call: rotations of layers in time zones, overrides, swaps and absences, as pure functions over rows."""
