//go:build linux

package ec2test

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Fault is how a call fails.
type Fault int

const (
	None      Fault = iota
	Throttle        // the cloud says that it is too much
	Broken          // the cloud answers 503
	Cut             // the connection is cut before the call arrives
	Lost            // and after that
	Exhausted       // there is no capacity for another instance
	Forbidden       // the caller may not do it
	Late            // a list is empty, as if what is on it was made too lately
)

// Secret is the caller's.
const Secret = "secret-of-the-test"

// Regions are some of those that there are.
var Regions = []string{"eu-central-1", "us-east-1", "us-west-2", "eu-west-1", "eu-west-2", "eu-west-3", "eu-north-1", "ap-south-1", "ap-northeast-1", "sa-east-1"}

// Cloud is one that runs. Its fields are for tests to read once nothing is
// under way any more, through the methods otherwise.
type Cloud struct {
	URL string

	t       testing.TB
	moto    *url.URL
	dir     string // of snapshots, disks and consoles
	address string // of machines that boot nothing; "": they boot

	mu        sync.Mutex
	faults    func(call string) Fault
	calls     map[string]int // by service:Operation, those that succeeded
	wrong     []string       // what AWS would not have taken
	snapshots map[string]*snapshot
	tokens    map[string]answered // by region, call and client token
	images    map[string]image
	believed  map[string]string    // snapshots of images: moto's, and that which it was registered with
	templates map[string]*template // by ID
	open      map[string][]rule    // by security group
	machines  map[string]*machine  // by instance
	spots     map[string]*spot     // by ID
	disks     map[string]*volume   // by ID: those that are no instance's own
	groups    map[string]*group    // by region and name
	starved   string               // why groups launch no instances; "": they do
	booted    int                  // machines ever
	ending    bool
	wait      sync.WaitGroup // for machines' ends
}

// Start starts a cloud that ends with the test, which fails if the cloud was
// told what AWS would not have taken.
func Start(t testing.TB) *Cloud { return Pretend(t, "") }

// Pretend starts a cloud whose instances boot nothing, have that address and
// say what remotetest wants to hear.
func Pretend(t testing.TB, address string) *Cloud {
	t.Helper()
	c := &Cloud{
		t: t, moto: startMoto(t), dir: t.TempDir(), address: address,
		faults: func(string) Fault { return None }, calls: map[string]int{},
		snapshots: map[string]*snapshot{}, tokens: map[string]answered{}, images: map[string]image{}, believed: map[string]string{},
		templates: map[string]*template{}, open: map[string][]rule{}, machines: map[string]*machine{}, spots: map[string]*spot{}, disks: map[string]*volume{}, groups: map[string]*group{},
	}
	server := httptest.NewServer(c)
	t.Cleanup(func() {
		server.Close()
		c.end()
		for _, w := range c.wrong {
			t.Errorf("AWS would refuse: %s", w)
		}
	})
	c.URL = server.URL
	return c
}

// Env are the variables by which the SDK speaks to the cloud.
func (c *Cloud) Env() []string {
	return []string{
		"AWS_ENDPOINT_URL=" + c.URL, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=" + Secret, "AWS_REGION=eu-central-1",
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true",
	}
}

// Fail has calls fail as faults says, which is asked one call at a time.
func (c *Cloud) Fail(faults func(call string) Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = faults
}

// Calls are the numbers of calls that succeeded since the last Forget, by
// service:Operation.
func (c *Cloud) Calls() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.calls)
}

// Wrong is what AWS would not have taken until now, and is forgotten.
func (c *Cloud) Wrong() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	wrong := c.wrong
	c.wrong = nil
	return wrong
}

// Forget begins to count again.
func (c *Cloud) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.calls)
}

// refusal is an answer as AWS gives it.
type refusal struct {
	status        int
	code, message string
	fair          bool // a client may come to this without being wrong
}

func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
	if err != nil {
		return // the client is gone
	}
	call, region, form := named(r, body)
	c.mu.Lock()
	fault := c.faults(call)
	c.mu.Unlock()
	switch fault {
	case Throttle:
		refuse(w, call, refusal{http.StatusBadRequest, throttleCode(call), "Rate exceeded", true})
		return
	case Broken:
		refuse(w, call, refusal{http.StatusServiceUnavailable, "InternalError", "An internal error has occurred", true})
		return
	case Exhausted:
		refuse(w, call, refusal{http.StatusInternalServerError, "InsufficientInstanceCapacity", "We currently do not have sufficient capacity in the Availability Zone you requested.", true})
		return
	case Forbidden:
		refuse(w, call, refusal{http.StatusForbidden, forbiddenCode(call), "You are not authorized to perform this operation.", true})
		return
	case Late:
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprintf(w, "<%sResponse><%[1]sResult></%[1]sResult></%[1]sResponse>", form.Get("Action"))
		return
	case Cut:
		panic(http.ErrAbortHandler)
	}
	status, header, answer := c.answer(r, request{call, region, form, body})
	if fault == Lost {
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), header)
	w.WriteHeader(status)
	_, _ = w.Write(answer) // the client may be gone
}

// request is a call.
type request struct {
	call, region string
	form         url.Values // nil where the call has a body of another kind
	body         []byte
}

// answer checks a call, has moto carry it out, and notes it.
func (c *Cloud) answer(r *http.Request, in request) (int, http.Header, []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	said := c.before(r, in)
	old, repeated := c.tokens[token(in)]
	if repeated && said == nil {
		said = c.checkRepeated(in, old)
	}
	if said != nil {
		if !said.fair {
			c.wrong = append(c.wrong, fmt.Sprintf("%s: %s", in.call, said.message))
		}
		rec := httptest.NewRecorder()
		refuse(rec, in.call, *said)
		return rec.Code, rec.Header(), rec.Body.Bytes()
	}
	if repeated {
		return old.status, old.header, old.text
	}
	if text := c.own(in); text != nil {
		c.calls[in.call]++
		return http.StatusOK, http.Header{"Content-Type": {"text/xml"}}, text
	}
	answer, err := c.forward(r, c.starve(in))
	if err != nil {
		c.t.Errorf("moto: %s: %v", in.call, err)
		panic(http.ErrAbortHandler)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		c.t.Errorf("moto: %s: %v", in.call, err)
	}
	answer.Header.Del("Content-Length")
	if answer.StatusCode < 300 {
		c.calls[in.call]++
		text = c.after(r, in, text)
		if t := token(in); t != "" {
			c.tokens[t] = answered{in, answer.StatusCode, answer.Header, text}
		}
	}
	return answer.StatusCode, answer.Header, text
}

func (c *Cloud) forward(r *http.Request, body []byte) (*http.Response, error) {
	to := *r.URL
	to.Scheme, to.Host = c.moto.Scheme, c.moto.Host
	req, err := http.NewRequestWithContext(c.t.Context(), r.Method, to.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = r.Header.Clone()
	return http.DefaultClient.Do(req)
}

var (
	scope     = regexp.MustCompile(`Credential=[^/]+/\d+/([^/]+)/([^/]+)/`)
	blockPath = regexp.MustCompile(`^/snapshots/([^/]+)/blocks(/\d+)?$`)
)

// named tells which call a request is, as policies name it, in which region,
// and its parameters where it has some in a form.
func named(r *http.Request, body []byte) (call, region string, form url.Values) {
	service := "?"
	if m := scope.FindStringSubmatch(r.Header.Get("Authorization")); m != nil {
		region, service = m[1], m[2]
	}
	if service != "ebs" {
		form, _ = url.ParseQuery(string(body)) // without an Action it is nothing
		return service + ":" + form.Get("Action"), region, form
	}
	switch m := blockPath.FindStringSubmatch(r.URL.Path); {
	case m != nil && r.Method == http.MethodPut:
		call = "ebs:PutSnapshotBlock"
	case m != nil && m[2] == "":
		call = "ebs:ListSnapshotBlocks"
	case m != nil:
		call = "ebs:GetSnapshotBlock"
	case strings.HasPrefix(r.URL.Path, "/snapshots/completion/"):
		call = "ebs:CompleteSnapshot"
	default:
		call = "ebs:StartSnapshot"
	}
	return call, region, nil
}

func throttleCode(call string) string {
	switch service, _, _ := strings.Cut(call, ":"); service {
	case "ebs":
		return "RequestThrottledException"
	case "autoscaling", "sts":
		return "Throttling"
	}
	return "RequestLimitExceeded"
}

func forbiddenCode(call string) string {
	if strings.HasPrefix(call, "autoscaling:") {
		return "AccessDenied"
	}
	return "UnauthorizedOperation"
}

// refuse answers in the form of the service.
func refuse(w http.ResponseWriter, call string, r refusal) {
	if strings.HasPrefix(call, "ebs:") {
		w.Header().Set("X-Amzn-Errortype", r.code)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(r.status)
		fmt.Fprintf(w, `{"Message":%q}`, r.message)
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(r.status)
	var message bytes.Buffer
	_ = xml.EscapeText(&message, []byte(r.message))                                 // a buffer takes all
	if strings.HasPrefix(call, "autoscaling:") || strings.HasPrefix(call, "sts:") { // the query protocol has no list of errors
		fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>test</RequestId></ErrorResponse>`, r.code, &message)
		return
	}
	fmt.Fprintf(w, `<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>test</RequestID></Response>`, r.code, &message)
}

// base64Of is how AWS writes checksums.
func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// Actions are all calls that succeeded, in order of their names.
func (c *Cloud) Actions() []string { return slices.Sorted(maps.Keys(c.Calls())) }
