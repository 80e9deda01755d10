"""What every job on erasure-coded volumes needs: shards, where they may go, how they are sent and proved."""
