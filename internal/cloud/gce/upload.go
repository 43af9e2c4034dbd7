package gce

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
)

// pieceSize is how much is sent in one request: a multiple of 256 KiB (Cloud
// Storage's "Resumable uploads"). Two of them are in memory.
const pieceSize = 8 << 20

// errSession tells that Cloud Storage has forgotten what was sent.
var errSession = errors.New("Cloud Storage has lost what was sent before")

// piece is a part of what is sent.
type piece struct {
	data []byte
	last bool
}

// upload sends the archive, or what Cloud Storage does not have of it. It
// returns how much was sent.
func (c *Client) upload(ctx context.Context, p *Push, session string) (sent int64, err error) {
	have, whole, err := c.uploaded(ctx, session)
	if err != nil || whole {
		return 0, err
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	r, w := io.Pipe()
	full, empty := make(chan piece, 1), make(chan []byte, 2)
	empty <- make([]byte, pieceSize)
	empty <- make([]byte, pieceSize)
	group, ctx := errgroup.WithContext(ctx)
	// A reader that has gone ends the writer, and the other way round.
	stop := context.AfterFunc(ctx, func() { r.CloseWithError(context.Cause(ctx)) })
	defer stop()
	group.Go(func() error {
		err := p.Archive(ctx, w)
		w.CloseWithError(err)
		return err
	})
	group.Go(func() error {
		defer close(full)
		err := cut(ctx, r, have, sum, full, empty)
		if ctx.Err() != nil {
			return context.Cause(ctx) // of which the closed pipe tells nothing
		}
		return err
	})
	group.Go(func() error {
		at := have
		for one := range full {
			stored, err := c.put(ctx, session, at, one)
			if err != nil {
				return err
			}
			at += int64(len(one.data))
			sent += int64(len(one.data))
			empty <- one.data[:pieceSize]
			if one.last {
				return stored.check(at, sum)
			}
		}
		return nil // cut tells why
	})
	err = group.Wait()
	return sent, err
}

// cut makes pieces of a stream, without its first bytes. All of it is summed.
func cut(ctx context.Context, from io.Reader, skip int64, sum hash.Hash, full chan<- piece, empty <-chan []byte) error {
	r := bufio.NewReaderSize(from, 1<<16)
	if _, err := io.CopyN(sum, r, skip); errors.Is(err, io.EOF) {
		return errSession // it was another stream
	} else if err != nil {
		return err
	}
	for last := false; !last; {
		var buf []byte
		select {
		case buf = <-empty:
		case <-ctx.Done():
			return ctx.Err()
		}
		n, err := io.ReadFull(r, buf)
		if err == nil {
			_, err = r.Peek(1)
		}
		last = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return err
		}
		sum.Write(buf[:n])
		select {
		case full <- piece{buf[:n], last}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// object is what Cloud Storage says of a whole one.
type object struct {
	Size   string `json:"size"`
	CRC32C string `json:"crc32c"`
}

// check compares what is stored with what was sent.
func (o object) check(size int64, sum hash.Hash32) error {
	want := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum.Sum32()))
	if o.CRC32C != want || o.Size != strconv.FormatInt(size, 10) {
		return fmt.Errorf("%w: it has %s bytes with the sum %s in place of %d with %s", errSession, o.Size, o.CRC32C, size, want)
	}
	return nil
}

// put sends a piece that begins at an offset. After a cut it sends what has
// not come. The last is answered with the object.
func (c *Client) put(ctx context.Context, session string, at int64, one piece) (stored object, err error) {
	have, whole := at, false
	unsure := false
	err = c.retry(ctx, func() error {
		if unsure {
			if have, whole, err = c.uploadedOnce(ctx, session); err != nil {
				return err
			}
			if !whole && (have < at || have > at+int64(len(one.data))) {
				return errSession
			}
		}
		unsure = true
		if whole || !one.last && have == at+int64(len(one.data)) {
			return nil
		}
		end, total := at+int64(len(one.data)), "*"
		if one.last {
			total = strconv.FormatInt(end, 10)
		}
		a, err := c.once(ctx, sending(session, have, end, total, one.data[have-at:]))
		if err != nil {
			return err
		}
		switch {
		case a.status == http.StatusPermanentRedirect && !one.last:
			have, err = received(a.header)
			if err == nil && have < end {
				err = &lostError{service: "Cloud Storage", err: io.ErrShortWrite} // the rest once more
			}
			return err
		case a.status/100 == 2 && one.last:
			return json.Unmarshal(a.body, &stored)
		}
		return c.sessionError(session, a)
	})
	if err == nil && whole {
		stored, err = c.stored(ctx, session)
	}
	return stored, err
}

func sending(session string, from, end int64, total string, data []byte) call {
	what := fmt.Sprintf("bytes %d-%d/%s", from, end-1, total)
	if len(data) == 0 {
		what = "bytes */" + total
	}
	return call{method: "PUT", url: session, body: data, long: true, header: map[string]string{"Content-Range": what}}
}

func asking(session string) call {
	return call{method: "PUT", url: session, header: map[string]string{"Content-Range": "bytes */*"}}
}

// stored asks for the object of a session that is at its end.
func (c *Client) stored(ctx context.Context, session string) (o object, err error) {
	err = c.do(ctx, asking(session), &o)
	return o, err
}

// uploaded asks how much has come, and whether that is all.
func (c *Client) uploaded(ctx context.Context, session string) (have int64, whole bool, err error) {
	err = c.retry(ctx, func() error {
		have, whole, err = c.uploadedOnce(ctx, session)
		return err
	})
	return have, whole, err
}

func (c *Client) uploadedOnce(ctx context.Context, session string) (have int64, whole bool, err error) {
	a, err := c.once(ctx, asking(session))
	switch {
	case err != nil:
		return 0, false, err
	case a.status/100 == 2:
		return 0, true, nil
	case a.status == http.StatusPermanentRedirect:
		have, err = received(a.header)
		return have, false, err
	}
	return 0, false, c.sessionError(session, a)
}

func (c *Client) sessionError(session string, a answer) error {
	if a.status == http.StatusNotFound || a.status == http.StatusGone {
		return errSession
	}
	return a.err(session, c)
}

// received reads how many bytes have come, of a header such as bytes=0-42.
func received(h http.Header) (int64, error) {
	said := h.Get("Range")
	if said == "" {
		return 0, nil
	}
	end, err := strconv.ParseInt(strings.TrimPrefix(strings.TrimPrefix(said, "bytes="), "0-"), 10, 63)
	if err != nil || end < 0 {
		return 0, fmt.Errorf("Cloud Storage says %q of what has come", said)
	}
	return end + 1, nil
}
