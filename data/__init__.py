"""Data that comes with the checkout: real foods, labelled sets, and a generator of restaurants and mentions."""
