"""How far numbers can be believed, measured on settings that are known to be right and wrong."""
