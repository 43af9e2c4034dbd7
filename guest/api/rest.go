package api

import "time"

// The REST API of the guest, version 1, JSON in and out; an error is a
// status of 4xx or 5xx with an Error body.
//
//	GET  /v1/status          Status
//	GET  /v1/stats           Stats
//	POST /v1/stop            StopRequest; answers at once; the VM powers off when the application ended
//	POST /v1/signal          SignalRequest
//	POST /v1/resize          ResizeRequest: the terminal's size
//	POST /v1/stdin/close     StdinCloseRequest: end of the application's standard input
//	POST /v1/exec            ExecRequest, then the stream described there
//	GET  /v1/files?path=P    a tar stream of P
//	PUT  /v1/files?path=P    unpacks the body, a tar stream, into directory P

// Error is the body of an unsuccessful answer.
type Error struct {
	Error string `json:"error"`
}

// Status is the state of the application.
type Status struct {
	// State is "starting", "running", "stopping" or "exited".
	State   string    `json:"state"`
	PID     int       `json:"pid,omitempty"`
	Started time.Time `json:"started,omitzero"`
	Exit    *Exit     `json:"exit,omitempty"`
	Kernel  string    `json:"kernel"`
}

// Stats are the guest's counters since boot; sizes are in bytes.
type Stats struct {
	CPUs        int           `json:"cpus"`
	CPUTime     time.Duration `json:"cpu_time_ns"`
	Uptime      time.Duration `json:"uptime_ns"`
	MemoryTotal int64         `json:"memory_total"`
	// MemoryUsed is what an application cannot get: total less available.
	MemoryUsed int64 `json:"memory_used"`
	NetRx      int64 `json:"net_rx"`
	NetTx      int64 `json:"net_tx"`
	BlockRead  int64 `json:"block_read"`
	BlockWrite int64 `json:"block_write"`
	Processes  int   `json:"processes"`
}

// StopRequest asks for an orderly end. Timeout is in seconds; negative means
// the config's own.
type StopRequest struct {
	Timeout int `json:"timeout"`
}

// SignalRequest sends a signal to the application, by name ("SIGHUP", "HUP")
// or number ("1").
type SignalRequest struct {
	Signal string `json:"signal"`
}

// ResizeRequest sets the size of the application's terminal in cells.
type ResizeRequest struct {
	Rows int `json:"rows"`
	Cols int `json:"cols"`
}

// StdinCloseRequest ends the application's standard input. Input and request
// come by different channels: After is how many bytes the host has sent to
// the console since boot, and the guest waits until it has passed them on.
type StdinCloseRequest struct {
	After int64 `json:"after"`
}

// The streams of an exec's frames.
const (
	StreamStdin  = 0
	StreamStdout = 1
	StreamStderr = 2
	StreamExit   = 3
	StreamResize = 4
)

// ExecRequest starts one more process beside the application. The answer is
// 101 with "Upgrade: capstan-exec"; then both sides send frames: one byte of
// stream number (0 stdin, 1 stdout, 2 stderr, 3 exit with an Exit document,
// 4 resize with a ResizeRequest document), four bytes of big-endian length,
// the bytes, at most 1 MiB. An empty frame of stream 0 closes standard input.
// Environment entries are added to the application's; an empty Workdir or
// User is the application's. Where the program cannot be started, the exit
// frame says why.
type ExecRequest struct {
	Args    []string `json:"args"`
	Env     []string `json:"env,omitempty"`
	Workdir string   `json:"workdir,omitempty"`
	User    string   `json:"user,omitempty"`
	TTY     bool     `json:"tty,omitempty"`
	Rows    int      `json:"rows,omitempty"`
	Cols    int      `json:"cols,omitempty"`
	Stdin   bool     `json:"stdin,omitempty"`
}
