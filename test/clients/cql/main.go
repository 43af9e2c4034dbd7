// Command cql is a client of Cassandra:
//
//	cql ADDRESS ping              answers whether it serves
//	cql ADDRESS write|read ROWS   makes a keyspace with so many rows, reads them
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"golang.org/x/sync/errgroup"
)

const (
	keyspace = `CREATE KEYSPACE ships WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}`
	table    = `CREATE TABLE ships.log (ship int, day int, entry text, PRIMARY KEY (ship, day))`
	days     = 100 // of each ship
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cql:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: cql ADDRESS ping|write|read [ROWS]")
	}
	session, err := connect(args[0])
	if err != nil {
		return err
	}
	defer session.Close()
	if args[1] == "ping" {
		var version string
		if err := session.Query("SELECT release_version FROM system.local").Scan(&version); err != nil {
			return err
		}
		fmt.Println(version)
		return nil
	}
	rows, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	if args[1] == "write" {
		return write(session, rows)
	}
	return read(session, rows)
}

// connect reaches the one node, whose own idea of its address is the guest's.
func connect(address string) (*gocql.Session, error) {
	contact, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	cluster := gocql.NewCluster(address)
	cluster.AddressTranslator = gocql.AddressTranslatorFunc(func(net.IP, int) (net.IP, int) { return contact.IP, contact.Port })
	cluster.ConnectTimeout, cluster.Timeout = time.Minute, time.Minute
	cluster.Consistency = gocql.One
	return cluster.CreateSession()
}

func entry(ship, day int) string { return fmt.Sprintf("ship %d, day %d: all well", ship, day) }

func write(session *gocql.Session, rows int) error {
	for _, statement := range []string{keyspace, table} {
		if err := session.Query(statement).Exec(); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(context.Background())
	group.SetLimit(32)
	for n := range rows {
		group.Go(func() error {
			ship, day := n/days, n%days
			return session.Query("INSERT INTO ships.log (ship, day, entry) VALUES (?, ?, ?)", ship, day, entry(ship, day)).ExecContext(ctx)
		})
	}
	return group.Wait()
}

// read compares every row, in whatever order of ships they come.
func read(session *gocql.Session, rows int) error {
	rest := make(map[[2]int]bool, rows)
	for n := range rows {
		rest[[2]int{n / days, n % days}] = true
	}
	found := session.Query("SELECT ship, day, entry FROM ships.log").PageSize(1000).Iter()
	var ship, day int
	var text string
	for found.Scan(&ship, &day, &text) {
		if !rest[[2]int{ship, day}] || text != entry(ship, day) {
			return fmt.Errorf("the row of ship %d and day %d says %q, or is there twice", ship, day, text)
		}
		delete(rest, [2]int{ship, day})
	}
	if err := found.Close(); err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("%d of %d rows are missing", len(rest), rows)
	}
	return nil
}
