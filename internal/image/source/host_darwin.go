package source

import (
	"os"
	"syscall"
)

func changeTime(st *syscall.Stat_t) int64 { return st.Ctimespec.Nano() }

// capability returns nil: only Linux has file capabilities.
func capability(*os.File) ([]byte, error) { return nil, nil }
