"""Files, command lines and progress: nothing here knows of videos."""
