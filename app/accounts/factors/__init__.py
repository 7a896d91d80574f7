"""Second factors: codes and recovery codes, each taken once."""
