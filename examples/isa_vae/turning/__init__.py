"""What a prior gains where a trained code is turned."""
