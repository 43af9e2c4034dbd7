//go:build !unix

package erofs_test

import "os"

// maxRSS cannot be told here.
func maxRSS(*os.ProcessState) int64 { return 0 }
