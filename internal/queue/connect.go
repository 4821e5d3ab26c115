package queue

import (
	"cmp"
	"time"

	"github.com/redis/rueidis"

	"github.com/dataguardian/dataguardian/internal/errs"
)

const (
	dialTimeout = 2 * time.Second
	keepAlive   = time.Second     // an idle connection is asked so often whether it lives
	silence     = 3 * time.Second // and is closed after so long without an answer
)

// Connect returns a client for one Redis server, whose address is in opt. The
// server need not be there: the client connects when it is used, again after
// every loss, and gives up on a server that hangs. Close it at the end.
func Connect(opt rueidis.ClientOption) (rueidis.Client, error) {
	opt.ForceSingleClient = true // one server; this also makes the client lazy
	opt.DisableCache = true      // nothing here is worth caching
	opt.AlwaysPipelining = true  // a call ends with its context even when the server hangs
	opt.DisableRetry = true      // callers try again; the client's retry reuses a command that a broken connection may still read
	opt.ClientName = cmp.Or(opt.ClientName, "dataguardian")
	opt.Dialer.Timeout = cmp.Or(opt.Dialer.Timeout, dialTimeout)
	opt.Dialer.KeepAlive = cmp.Or(opt.Dialer.KeepAlive, keepAlive)
	opt.ConnWriteTimeout = cmp.Or(opt.ConnWriteTimeout, silence)
	client, err := rueidis.NewClient(opt)
	if client == nil {
		return nil, errs.Wrap(err, errs.Internal, errs.CodeInternal, "the Redis client cannot be made with these options")
	}
	return client, nil
}
