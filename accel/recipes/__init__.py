"""Ways to make a graph smaller or faster: a file each (see accel.protocols.Recipe)."""
