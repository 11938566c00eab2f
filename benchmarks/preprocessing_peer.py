"""The other side of preprocessing.py: datatrove's pipeline of the same steps. Runs in the peer's own environment.

    PEER/bin/python preprocessing_peer.py INPUT_FOLDER WORK_FOLDER TOKENIZER PROCESSES

INPUT_FOLDER: jsonl.gz files with `id` and `text`. Unicode fix (ftfy), Gopher quality, exact and MinHash deduplication,
tokenization. Prints one JSON object: seconds, and the documents that were tokenized.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.exact_dedup import (
    ExactDedupConfig,
    ExactDedupFilter,
    ExactDedupSignature,
    ExactFindDedups,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.filters import GopherQualityFilter
from datatrove.pipeline.formatters import FTFYFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig

BANDS, ROWS, WORDS = 14, 8, 5


def content(document):
    return document.text


def main():
    source, work, tokenizer, processes = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    tasks = len(list(Path(source).glob("*.jsonl.gz")))

    def run(name, *pipeline, tasks=tasks):
        LocalPipelineExecutor(
            pipeline=list(pipeline), tasks=tasks, workers=min(processes, tasks), logging_dir=str(work / "logs" / name)
        ).run()

    exact = ExactDedupConfig(content_getter=content, hash_config=HashConfig(precision=64))
    near = MinhashConfig(hash_config=HashConfig(precision=64), n_grams=WORDS, num_buckets=BANDS, hashes_per_bucket=ROWS)
    began = time.perf_counter()
    clean, once = str(work / "clean"), str(work / "once")
    run("clean", JsonlReader(source), FTFYFormatter(), GopherQualityFilter(), JsonlWriter(clean))
    run("hash", JsonlReader(clean), ExactDedupSignature(output_folder=str(work / "hashes"), config=exact))
    finder = ExactFindDedups(data_folder=str(work / "hashes"), output_folder=str(work / "same"), config=exact)
    run("same", finder, tasks=1)
    run(
        "exact",
        JsonlReader(clean),
        ExactDedupFilter(data_folder=str(work / "same"), config=exact),
        JsonlWriter(once),
    )
    run("sign", JsonlReader(once), MinhashDedupSignature(output_folder=str(work / "signs"), config=near))
    buckets = MinhashDedupBuckets(input_folder=str(work / "signs"), output_folder=str(work / "buckets"), config=near)
    run("buckets", buckets, tasks=BANDS)
    cluster = MinhashDedupCluster(input_folder=str(work / "buckets"), output_folder=str(work / "remove"), config=near)
    run("cluster", cluster, tasks=1)
    run(
        "tokens",
        JsonlReader(once),
        MinhashDedupFilter(input_folder=str(work / "remove")),
        DocumentTokenizer(
            output_folder=str(work / "tokens"), tokenizer_name_or_path=tokenizer, shuffle_documents=False
        ),
    )
    seconds = time.perf_counter() - began
    stats = json.loads((work / "logs" / "tokens" / "stats.json").read_text())
    tokenized = next(each["stats"]["forwarded"] for each in stats if "MinHash" in each["name"])
    tokenized = tokenized["total"] if isinstance(tokenized, dict) else tokenized
    print(json.dumps({"seconds": seconds, "documents": tokenized, "version": version("datatrove")}))


if __name__ == "__main__":
    main()
