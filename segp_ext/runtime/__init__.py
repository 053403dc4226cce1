"""The process and the machine below everything else: processes, time, memory, messages, and guards against surprises.

- `processes`: the processes that share a run; `forked`: one thread in a forked process.
- `process_state`: draws and the default dtype, whatever the process has set.
- `memory`: how much memory may be taken; `timing`: time by phase; `progress`: bars, warnings and errors of commands.
- `foreign_pickle`: what a pickle from elsewhere may use; `git_lfs`: pointers of Git LFS in place of files.
"""
