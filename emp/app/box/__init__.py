"""Between the box that trades and the machine at home: what may go which way, and nothing else.

The box serves one protocol on standard input and output, behind an SSH key that can run nothing else:

    have        what its registry holds, by name
    runs        its runs' market journals: paths, sizes, times
    send        those of them that are asked for
    registry    its logs, and what they tell of that the asker lacks
    take        new evidence, decisions and models, verified line by line before anything changes

There is no word for an order, a control or a setting: nothing at home can trade. What a model may do on the box the
gates decide, from what both have signed.
"""
