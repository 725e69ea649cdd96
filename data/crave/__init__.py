"""A generator of restaurants, guides and mentions of any size, with the truth kept aside."""
