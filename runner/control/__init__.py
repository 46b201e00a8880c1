"""The serverless half: jobs and their schedules, the scheduler, the recorder and its watch. No agent needs it."""
