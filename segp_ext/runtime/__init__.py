"""The process and the machine below everything: processes, time, memory, progress, and what files from elsewhere may do."""
