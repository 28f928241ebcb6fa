"""Selection from parquet shards of features: bounded memory, restart at any instant, one machine or many."""
