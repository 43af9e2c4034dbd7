// Package api is the contract between the host and the guest: the instance
// config that PID 1 reads, the names of the channels between them, the REST
// API's types and the form of the exit report. It imports nothing of ours.
package api

// Version is the schema version of Config. PID 1 refuses a config of another
// version.
const Version = 1

const (
	// ConfigPath is where PID 1 finds the config as an initramfs entry.
	ConfigPath = "/capstan/config.json"

	// ConfigPartition is the GPT partition name of the config on a disk.
	ConfigPartition = "capstan-config"

	// ControlPort is the virtio-serial port that carries the REST API:
	// yamux sessions (the guest is the server) with HTTP/1.1 on the streams.
	ControlPort = "org.capstan.control"

	// ConsolePort is the virtio-serial port of the application's console.
	// A guest without it uses the kernel's console.
	ConsolePort = "org.capstan.console"
)

// Config is all that PID 1 needs to know of one instance.
type Config struct {
	Version int `json:"version"`

	// Args is the application's argv, entrypoint and command joined.
	Args []string `json:"args"`
	// Env has entries K=V, in the order of precedence low to high.
	Env []string `json:"env,omitempty"`
	// Workdir is an absolute path; "" is "/". It is made if it is missing.
	Workdir string `json:"workdir,omitempty"`
	// User is "user", "uid", "user:group", "uid:gid" and mixtures, as the
	// OCI image specification's config.User; names are looked up in the
	// image's /etc/passwd and /etc/group. "" is root.
	User string `json:"user,omitempty"`

	Hostname string `json:"hostname,omitempty"`

	// TTY gives the application a terminal (a pty relayed to the console)
	// instead of pipes; Rows and Cols are its first size, 0 for the default.
	TTY  bool `json:"tty,omitempty"`
	Rows int  `json:"rows,omitempty"`
	Cols int  `json:"cols,omitempty"`
	// Stdin connects the console's input to the application's standard
	// input; otherwise that is /dev/null.
	Stdin bool `json:"stdin,omitempty"`

	// StopSignal is a name such as "SIGQUIT"; "" is SIGTERM.
	StopSignal string `json:"stop_signal,omitempty"`
	// StopTimeout is how many seconds the application has between the stop
	// signal and SIGKILL; 0 is ten.
	StopTimeout int `json:"stop_timeout,omitempty"`

	Root    Root    `json:"root"`
	Network Network `json:"network"`
	Mounts  []Mount `json:"mounts,omitempty"`

	// Sysctls are set after PID 1's own defaults: "net.core.somaxconn": "128".
	Sysctls map[string]string `json:"sysctls,omitempty"`

	// Time is the host's clock when the config was written, in nanoseconds
	// since the epoch: a floor for guests without a clock device. 0: unknown.
	Time int64 `json:"time,omitempty"`

	// Verbose makes PID 1 say on the kernel's console what it does.
	Verbose bool `json:"verbose,omitempty"`
}

// Root says which devices make the root file system. A device is named
// "serial:NAME" (a block device's serial number), "partlabel:NAME" (a GPT
// partition's name) or a path such as "/dev/vda".
type Root struct {
	// Lower are read-only EROFS devices, topmost first.
	Lower []string `json:"lower"`
	// Upper is a writable ext4 device for the overlay's upper layer; ""
	// keeps writes in memory.
	Upper string `json:"upper,omitempty"`
	// ReadOnly lets nobody write to the root. Upper is not used then.
	ReadOnly bool `json:"read_only,omitempty"`
}

// Network is the configuration of eth0. The zero value asks for DHCP.
type Network struct {
	// None leaves everything but loopback down.
	None bool `json:"none,omitempty"`
	// Address is in CIDR notation; "" asks DHCP for all that follows.
	Address     string   `json:"address,omitempty"`
	Gateway     string   `json:"gateway,omitempty"`
	Nameservers []string `json:"nameservers,omitempty"`
	Search      []string `json:"search,omitempty"`
	// Hosts are further lines for /etc/hosts: name to address.
	Hosts map[string]string `json:"hosts,omitempty"`
}

// Mount is a file system that is mounted over the root before the
// application starts. Missing targets are made.
type Mount struct {
	// Type is "9p" (Source is the mount tag), "virtiofs" (the same),
	// "ext4" (Source is a device, as in Root) or "tmpfs".
	Type   string `json:"type"`
	Source string `json:"source,omitempty"`
	Target string `json:"target"`
	// File mounts only this one file of a 9p or virtiofs share onto Target.
	File     string `json:"file,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"`
}
