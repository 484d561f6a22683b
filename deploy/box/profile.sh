# A shell that was left alone for an hour ends; what runs in it is not touched. No core dumps.
TMOUT=3600
readonly TMOUT
export TMOUT
ulimit -c 0
