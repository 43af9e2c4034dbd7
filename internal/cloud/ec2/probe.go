package ec2

import (
	"context"
	"os"

	"github.com/aws/aws-sdk-go-v2/config"
)

// Configured tells whether the environment or the SDK's files have credentials,
// or may have them. Whether this host is one of EC2's, with a role, is not
// asked.
func (d *Driver) Configured() bool {
	env, err := config.NewEnvConfig()
	if err != nil {
		return true // something is set, and wrong: Probe says what
	}
	if env.Credentials.HasKeys() || env.SharedConfigProfile != "" || env.WebIdentityTokenFilePath != "" || env.ContainerCredentialsRelativePath != "" || env.ContainerCredentialsEndpoint != "" {
		return true
	}
	files := []string{env.SharedCredentialsFile, env.SharedConfigFile}
	for n, usual := range []string{config.DefaultSharedCredentialsFilename(), config.DefaultSharedConfigFilename()} {
		if files[n] == "" {
			files[n] = usual
		}
		if info, err := os.Stat(files[n]); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
			return true
		}
	}
	return false
}

// Probe asks who the caller is, and tells the account.
func (d *Driver) Probe(ctx context.Context) (string, error) {
	c, err := d.client(ctx, "")
	if err == nil {
		err = c.identify(ctx)
	}
	if err != nil {
		return "", err
	}
	return "account " + c.account + ", region " + c.Region(), nil
}
