"""The TSV line protocol of sm_bluesky's instrument servers."""
