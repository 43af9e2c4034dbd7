// Old Capstan's package commands, as they were in its version 0.3.0:
//
//	oldcapstan import     keeps the package in this directory in $CAPSTAN_ROOT
//	oldcapstan collect    collects what its image would hold in mpm-pkg
package main

import (
	"fmt"
	"os"

	"github.com/mikelangelo-project/capstan/cmd"
	"github.com/mikelangelo-project/capstan/util"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	repository := util.NewRepo("http://127.0.0.1:1/")
	switch {
	case len(os.Args) == 2 && os.Args[1] == "import":
		return cmd.ImportPackage(repository, dir)
	case len(os.Args) == 2 && os.Args[1] == "collect":
		return cmd.CollectPackage(repository, dir, false, false, false)
	}
	return fmt.Errorf("usage: oldcapstan import|collect")
}
