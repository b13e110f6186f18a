"""Q/DQ graphs: which nodes can run in int8, where the pairs go, and the writing of them."""
