"""Q/DQ graphs: which nodes can run in int8, what is moved or folded before, where the pairs go, and the writing of them."""
