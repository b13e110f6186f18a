"""The runtimes: a file each, found by its name (see accel.protocols.Engine)."""
