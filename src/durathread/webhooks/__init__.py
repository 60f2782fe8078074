"""Where webhooks may go, how they are signed, and how one is posted. When is decided by the workflow `webhook/{run_id}`."""
