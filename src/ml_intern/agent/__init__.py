"""One lane at work: the loop, asking a model, the road of every call. Keeps no state: all of it is in the record."""
