"""A join of more than a worker's memory: both sides cut into ranges of hashed keys, joined range by range.

key_file      the keys of a split's rows, by range
right_task    the records of one file → runs, one for each range
match_task    one range of both sides → for each split, the columns of its rows
attach_task   the rows of one split with the columns that the ranges found
"""
