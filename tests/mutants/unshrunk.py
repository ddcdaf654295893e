"""A pytest plugin for the runner of mutants: a fault that hypothesis found is found, its smallest example helps nobody.

Looking for it takes longer than a test may, and a test that is stopped in the middle of it proves nothing.
"""

from hypothesis import Phase, settings

settings.register_profile("unshrunk", phases=[Phase.explicit, Phase.generate])
settings.load_profile("unshrunk")
