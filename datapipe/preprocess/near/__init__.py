"""Near duplicates over the corpus: bands → candidate pairs → verified links → clusters → drop lists.

    record_file     sorted records that can be read by ranges of their hash: the form of band and pair files
    sets_file       the shingles, sizes and scores of a split's documents, by position
    candidates      which documents share a band
    verification    the Jaccard similarity of pairs
    components      which documents are linked, however far round
    clusters        one survivor of each, drop lists, the cluster table
    forecast        what a run will need, and find

Band and sets files are kept in the dataset's index: a new delivery is compared with them, and no old row is read again.
"""
