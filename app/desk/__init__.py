"""The review desk: people settle what no look-up could, with evidence."""
