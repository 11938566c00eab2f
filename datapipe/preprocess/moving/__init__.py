"""Rows moved between splits, out of core: sort and shuffle.

row_order        what rows are sorted by, and into which part a row goes
splitters_task   a sample of the keys → the bounds of the parts
partition_task   the rows of one split → runs, one for each part
merge_task       the runs of one part → its rows, sorted
"""
