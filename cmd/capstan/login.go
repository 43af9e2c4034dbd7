package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"capstan/internal/repo"
	"capstan/internal/repo/dockerconfig"
)

// maxSecret bounds a password on standard input, in bytes.
const maxSecret = 64 << 10

func newLogin(a *app) *cobra.Command {
	var user, password string
	var fromStdin bool
	cmd := &cobra.Command{
		Use:   "login [flags] [REGISTRY]",
		Short: "Keep the credentials for a registry",
		Long: "Ask for a user's name and password, check them with the registry, and keep them\n" +
			"where docker, crane and skopeo do: in Docker's config.json ($DOCKER_CONFIG or\n" +
			"~/.docker), or with the credential helper that it names. REGISTRY is the first of\n" +
			"the configured ones where it is not given.",
		Example: "  capstan login registry.example.org\n  pass registry | capstan login -u me --password-stdin registry.example.org",
		Args:    atMost(1, "one registry"),
	}
	cmd.Flags().StringVarP(&user, "username", "u", "", "the user's name")
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	cmd.Flags().StringVarP(&password, "password", "p", "", "not taken, because others would see it: see --password-stdin")
	cmd.Flags().MarkHidden("password") // it is there to say why it is not
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("password") {
			return &hinted{errors.New("-p would show the password to all who list this machine's processes, and leave it in the shell's history"),
				"--password-stdin, or let capstan ask for it"}
		}
		if fromStdin && user == "" {
			return usage(cmd, errors.New("--password-stdin needs -u"))
		}
		host, err := a.registry(cmd, args)
		if err != nil {
			return err
		}
		if a.settings.Offline {
			return errOffline("logging in to " + host)
		}
		secret := ""
		if fromStdin {
			secret, err = readSecret(cmd.InOrStdin())
		} else {
			user, secret, err = askCredentials(cmd, host, user)
		}
		if err != nil {
			return err
		}
		return a.login(cmd, host, user, secret)
	}
	return cmd
}

// registry returns the registry that a command is given, or the first of the
// configured ones.
func (a *app) registry(cmd *cobra.Command, args []string) (string, error) {
	if len(args) > 0 {
		return repo.ParseHost(args[0])
	}
	host := a.settings.Registries.Default()
	if host == "" {
		return "", usage(cmd, fmt.Errorf("%s needs a registry: none is configured", cmd.CommandPath()))
	}
	return host, nil
}

// errOffline says that something cannot be done offline.
func errOffline(doing string) error {
	return &hinted{errors.New(doing + " needs the network, and capstan is told to be offline"), "without --offline (or offline: true in config.yaml)"}
}

func (a *app) login(cmd *cobra.Command, host, user, secret string) error {
	if user == "" || secret == "" {
		return errors.New("the user's name or the password is empty")
	}
	file, err := dockerconfig.Default()
	if err != nil {
		return err
	}
	if err := a.client().Login(cmd.Context(), host, user, secret); err != nil {
		return err
	}
	where, err := file.Put(cmd.Context(), host, user, secret)
	if err != nil {
		return err
	}
	note(cmd, "logged in to %s as %s; the password is in %s", host, user, where)
	return nil
}

// readSecret reads a password up to the end of its line.
func readSecret(r io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	if len(data) > maxSecret {
		return "", fmt.Errorf("reading the password: it is longer than %d KiB", maxSecret>>10)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r"), nil
}

// askCredentials asks at the terminal for what is not known yet.
func askCredentials(cmd *cobra.Command, host, user string) (string, string, error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return "", "", usage(cmd, errors.New("there is no terminal to ask for the password at: give it with -u USER --password-stdin"))
	}
	w := cmd.ErrOrStderr()
	if user == "" {
		fmt.Fprintf(w, "User at %s: ", host)
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if err != nil {
			return "", "", fmt.Errorf("reading the user's name: %w", err)
		}
		user = strings.TrimSpace(line)
	}
	fmt.Fprintf(w, "Password of %s: ", user)
	secret, err := readPassword(cmd.Context(), fd)
	fmt.Fprintln(w)
	return user, secret, err
}

// readPassword reads a line without echo. Whatever ends it, the terminal is as
// it was.
func readPassword(ctx context.Context, fd int) (string, error) {
	state, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	type answer struct {
		secret []byte
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		secret, err := term.ReadPassword(fd)
		answers <- answer{secret, err}
	}()
	select {
	case got := <-answers:
		if got.err != nil {
			return "", fmt.Errorf("reading the password: %w", got.err)
		}
		return string(got.secret), nil
	case <-ctx.Done(): // the reader ends with the process
		term.Restore(fd, state)
		return "", context.Canceled
	}
}

func newLogout(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "logout [REGISTRY]",
		Short:   "Forget the credentials for a registry",
		Example: "  capstan logout registry.example.org",
		Args:    atMost(1, "one registry"),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := a.registry(cmd, args)
			if err != nil {
				return err
			}
			file, err := dockerconfig.Default()
			if err != nil {
				return err
			}
			there, err := file.Remove(cmd.Context(), host)
			if err != nil {
				return err
			}
			if there {
				note(cmd, "logged out of %s", host)
			} else {
				note(cmd, "there were no credentials for %s", host)
			}
			return nil
		},
	}
}
