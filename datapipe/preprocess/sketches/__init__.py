"""Mergeable statistics: what one reading of the rows leaves of a column, small, and the same in any number of parts.

moments    counts, least and greatest, mean and variance
quantiles  a t-digest
counts     how often each value occurs, exactly, up to a bound
"""
