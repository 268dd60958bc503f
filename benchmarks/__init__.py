"""Load generators and reference floors: how labnet's speed compares, on the machine at hand.

Run by hand, ``python -m benchmarks``; nothing here is timed inside a test. Every figure is a ratio
of two rates from one run, whose rounds took turns, since rates alone say more of the machine.
"""
