package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"capstan/internal/cloud/gce/gcetest"
	"capstan/internal/hypervisor/vmware/vmwaretest"
	"capstan/internal/hypervisor/vsphere/vspheretest"
)

// doctorWorld is a world in which nothing is configured but by env.
func doctorWorld(t *testing.T, env ...string) *world {
	t.Helper()
	w := newWorld(t)
	w.env = append(w.env, "CAPSTAN_OFFLINE=false", "HOME="+w.dir, "CLOUDSDK_CONFIG="+w.dir)
	for _, unset := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE",
		"GOOGLE_APPLICATION_CREDENTIALS", "GOVC_URL", "GOVC_USERNAME", "GOVC_PASSWORD",
	} {
		w.env = append(w.env, unset+"=")
	}
	w.env = append(w.env, env...)
	return w
}

// platforms are doctor's lines about what is not on every host, by their names.
func (w *world) platforms() map[string]finding {
	w.t.Helper()
	out := w.capstan("doctor", "--format", "json").stdout
	var rows []finding
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
	all := map[string]finding{}
	for _, f := range rows {
		switch f.Check {
		case "vmware", "vsphere", "ec2", "gce":
			all[f.Check] = f
		}
	}
	return all
}

// callers is AWS as far as it tells who somebody is, or refuses it.
func callers(t *testing.T, refuses bool) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/xml")
		if r.FormValue("Action") != "GetCallerIdentity" {
			t.Errorf("asked for %s", r.FormValue("Action"))
		}
		if refuses {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, "<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>The security token is invalid.</Message></Error></ErrorResponse>")
			return
		}
		fmt.Fprint(w, "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>")
	}))
	t.Cleanup(s.Close)
	return s.URL
}

const awsSecret = "aws-secret-of-the-test"

func awsEnv(url string) []string {
	return []string{"AWS_ENDPOINT_URL=" + url, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=" + awsSecret, "AWS_REGION=eu-central-1", "AWS_EC2_METADATA_DISABLED=true"}
}

// TestDoctorPlatforms: of what is configured doctor says whether it can be used.
func TestDoctorPlatforms(t *testing.T) {
	vsphere := vspheretest.Start(t, vspheretest.Options{})
	env := append(vsphere.Env(), "CAPSTAN_VMRUN_PATH="+vmwaretest.New(t, filepath.Join("..", "..")))
	env = append(env, awsEnv(callers(t, false))...)
	env = append(env, gcetest.Pretend(t, "192.0.2.9").Env(t)...)
	w := doctorWorld(t, append(env, "VMRUN_STATE="+t.TempDir())...)
	found := w.platforms()
	for name, detail := range map[string]string{
		"vmware": "/vmrun", "vsphere": "VMware ESXi", "ec2": "account 123456789012, region eu-central-1", "gce": "project " + gcetest.Project,
	} {
		if f := found[name]; !f.OK || !strings.Contains(f.Detail, detail) || f.Remedy != "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if out := w.capstan("doctor").stdout; strings.Contains(out, vspheretest.Password) || strings.Contains(out, awsSecret) || !strings.Contains(out, "account 123456789012") {
		t.Errorf("doctor says:\n%s", out)
	}
	w.env = append(w.env, "CAPSTAN_OFFLINE=true")
	if f := w.platforms()["gce"]; !f.OK || !strings.Contains(f.Detail, "not asked") {
		t.Errorf("offline: %+v", f)
	}
}

// TestDoctorBadPlatforms: what is configured and cannot be used is wrong, with a
// way out, and no secret.
func TestDoctorBadPlatforms(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0") // nobody answers there
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	env := append(awsEnv(callers(t, true)), "GOVC_URL=https://root:vsphere-secret@"+closed.Addr().String(), "GOOGLE_APPLICATION_CREDENTIALS=/nowhere", "CAPSTAN_VMRUN_PATH=/nowhere/vmrun")
	w := doctorWorld(t, env...)
	found := w.platforms()
	for _, name := range []string{"vmware", "vsphere", "ec2", "gce"} {
		f, there := found[name]
		if !there || f.OK || f.Detail == "" || f.Remedy == "" {
			t.Errorf("%s: %+v", name, f)
		}
		if strings.Contains(f.Detail+f.Remedy, "secret") {
			t.Errorf("a secret is in %+v", f)
		}
	}
	if r := w.capstan("doctor"); r.status != exitError {
		t.Errorf("doctor: %+v", r)
	}
}

// TestDoctorUnconfigured: of what nobody uses nothing is said; a configuration of
// another tool's without credentials is no use, and a section of ours is one.
func TestDoctorUnconfigured(t *testing.T) {
	w := doctorWorld(t, "AWS_EC2_METADATA_DISABLED=true")
	if found := w.platforms(); len(found) > 0 {
		t.Errorf("nothing is configured: %+v", found)
	}
	w.write(".aws/config", "[default]\nregion = eu-central-1\n")
	if found := w.platforms(); len(found) > 0 {
		t.Errorf("there are no credentials: %+v", found)
	}
	w.write("root/config.yaml", "ec2: {region: eu-central-1}\nvsphere: {datastore: fast}\n")
	found := w.platforms()
	for _, name := range []string{"ec2", "vsphere"} {
		if f, there := found[name]; !there || f.OK || f.Remedy == "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if len(found) != 2 {
		t.Errorf("two are configured: %+v", found)
	}
}
