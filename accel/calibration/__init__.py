"""What calibration data says of every value in a graph, gathered in one pass of bounded memory."""
