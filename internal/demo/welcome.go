package demo

import (
	"fmt"
	"io"
)

// Welcome says where the control plane listens and what to try next.
func Welcome(w io.Writer, dataDir, http, grpc string) error {
	at := ""
	if dataDir != "" {
		at = " --data-dir " + dataDir
	}
	_, err := fmt.Fprintf(w, `
DataGuardian is running.

  REST  http://%[1]s/api    reference: http://%[1]s/api/docs
  gRPC  %[2]s

Try, in another terminal:

  bin/dataguardian%[3]s job run %[4]q --follow
  bin/dataguardian%[3]s backup list %[5]q
  curl -H "Authorization: Bearer $(cat %[6]s/admin-token)" http://%[1]s/api/health

Stop it with Ctrl-C; started again, everything is as it was.

`, http, grpc, at, JobName, Datasource, dataDir)
	return err
}
