//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A client has one whole conversation with a server. It returns an error where
// there is none within the time given, and fails the test for a wrong answer.
type client func(t *testing.T, address string, within time.Duration) error

// conversation bounds what a server that answers needs for the rest.
const conversation = time.Minute

func itoa(n int) string { return strconv.Itoa(n) }

// tool runs a client program, and returns what it printed.
func tool(within time.Duration, stdin string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", argv[0], err, out)
	}
	return string(out), nil
}

func redisClient(t *testing.T, address string, within time.Duration) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	cli := []string{"redis-cli", "-h", host, "-p", port}
	if out, err := tool(within, "", append(cli, "PING")...); err != nil || out != "PONG\n" {
		return fmt.Errorf("PING: %q, %v", out, err)
	}
	var script, want strings.Builder
	for n := range 1000 {
		fmt.Fprintf(&script, "SET key:%d value-%d\nGET key:%d\n", n, n, n)
		fmt.Fprintf(&want, "OK\nvalue-%d\n", n)
	}
	out, err := tool(conversation, script.String(), cli...)
	if err != nil {
		return err
	}
	if out != want.String() {
		t.Fatalf("1000 SET and GET were answered with %q", tail(out))
	}
	return nil
}

func memcachedClient(t *testing.T, address string, within time.Duration) error {
	conn, err := net.DialTimeout("tcp", address, within)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	// A key of its own: what an earlier try had sent may arrive just now.
	key := conn.LocalAddr().(*net.TCPAddr).Port
	ask := fmt.Sprintf("set k%[1]d 7 0 5\r\nhello\r\nget k%[1]d\r\ndelete k%[1]d\r\nget k%[1]d\r\nquit\r\n", key)
	want := fmt.Sprintf("STORED\r\nVALUE k%d 7 5\r\nhello\r\nEND\r\nDELETED\r\nEND\r\n", key)
	if _, err := io.WriteString(conn, ask); err != nil {
		return err
	}
	got, err := io.ReadAll(io.LimitReader(bufio.NewReader(conn), 4096))
	if err != nil || len(got) == 0 {
		return fmt.Errorf("no answer yet: %w", err)
	}
	if string(got) != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	return nil
}

// httpClient returns a client that expects a page with the text.
func httpClient(text string) client {
	return func(t *testing.T, address string, within time.Duration) error {
		browser := http.Client{Timeout: within, Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := browser.Get("http://" + address + "/")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), text) {
			t.Fatalf("GET / was answered with %s and %q", resp.Status, body)
		}
		return nil
	}
}

func psqlCommand(host, port string) []string {
	return []string{"psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", port, "-U", "postgres"}
}

func psqlClient(t *testing.T, address string, within time.Duration) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	psql := psqlCommand(host, port)
	if _, err := tool(within, "SELECT 1", psql...); err != nil {
		return err // it may still be making its cluster
	}
	out, err := tool(conversation, `CREATE TABLE ships (name text PRIMARY KEY, masts int);
		INSERT INTO ships SELECT 'ship ' || n, n % 4 FROM generate_series(1, 1000) n;
		BEGIN; UPDATE ships SET masts = 9; ROLLBACK;
		SELECT count(*), sum(masts) FROM ships;`, psql...)
	if err != nil || out != "1000|1500\n" {
		t.Fatalf("psql printed %q, %v", out, err)
	}
	return nil
}

// clientProgram builds a client of test/clients and returns its path.
func clientProgram(t *testing.T, name string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), name)
	build := exec.Command("go", "build", "-o", bin, "./"+name)
	build.Dir = "../clients"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the client %s: %v\n%s", name, err, out)
	}
	return bin
}
