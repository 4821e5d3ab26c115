// Command client prints what happens to all executions until it is stopped:
//
//	DATAGUARDIAN_TOKEN=... client [127.0.0.1:9090]
//
// It speaks gRPC without TLS, which is for the same machine only.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	address := "127.0.0.1:9090"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	if err := run(ctx, address, os.Getenv("DATAGUARDIAN_TOKEN"), os.Stdout); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

// run watches, and watches again after a lost connection, from where it was.
func run(ctx context.Context, address, token string, out io.Writer) (err error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	request := &pb.WatchExecutionsRequest{IncludeLogs: true}
	for {
		err := watch(ctx, pb.NewExecutionServiceClient(conn), request, out)
		if status.Code(err) != codes.Unavailable {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil
		}
	}
}

// watch prints events and notes the id of the last one in the request: the next
// call goes on behind it.
func watch(ctx context.Context, client pb.ExecutionServiceClient, request *pb.WatchExecutionsRequest, out io.Writer) error {
	stream, err := client.WatchExecutions(ctx, request)
	if err != nil {
		return err
	}
	for {
		event, err := stream.Recv()
		if err != nil {
			return err
		}
		if text := describe(event); text != "" {
			if _, err := fmt.Fprintln(out, text); err != nil {
				return err
			}
		}
		request.After = event.GetId()
	}
}

func describe(e *pb.WatchExecutionsResponse) string {
	who := e.GetOperation().String() + " of " + e.GetDatasourceName() + ": "
	switch event := e.GetEvent().(type) {
	case *pb.WatchExecutionsResponse_Line:
		return who + event.Line.GetMessage()
	case *pb.WatchExecutionsResponse_Gap:
		return fmt.Sprintf("%slines %d to %d are lost", who, event.Gap.GetFrom(), event.Gap.GetTo())
	case *pb.WatchExecutionsResponse_Progress:
		return fmt.Sprintf("%s%s, %.0f %%", who, event.Progress.GetPhase(), event.Progress.GetPercent())
	case *pb.WatchExecutionsResponse_Heartbeat:
		return ""
	default: // the status has changed
		return who + e.GetStatus().String() + " " + e.GetErrorMessage()
	}
}
