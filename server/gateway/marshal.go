package gateway

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/httpbody"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/server/rpc"
)

// Media types of streams.
const (
	ndjson      = "application/x-ndjson"
	eventStream = "text/event-stream"
)

// heartbeat is the event of a stream that says no more than that it lives.
const heartbeat = "heartbeat"

var bare = runtime.JSONPb{MarshalOptions: protojson.MarshalOptions{UseProtoNames: true}}

// lines writes answers as JSON and streams as one JSON object a line.
type lines struct{ runtime.JSONPb }

func newLines() *lines {
	return &lines{runtime.JSONPb{MarshalOptions: protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}}}
}

// ContentType of an answer that is no stream.
func (m *lines) ContentType(v any) string {
	if body, ok := v.(*httpbody.HttpBody); ok {
		return rawType(body)
	}
	return "application/json"
}

// StreamContentType of a stream.
func (m *lines) StreamContentType(v any) string {
	if body, ok := v.(*httpbody.HttpBody); ok {
		return rawType(body)
	}
	return ndjson
}

// Delimiter is empty: messages bring their own end, and bytes have none.
func (m *lines) Delimiter() []byte { return nil }

// Marshal writes one answer, or one message of a stream, which the runtime wraps
// as {"result": message} or {"error": status}.
func (m *lines) Marshal(v any) ([]byte, error) {
	if body, ok := v.(*httpbody.HttpBody); ok {
		return body.GetData(), nil
	}
	message, failure := unwrap(v)
	switch {
	case failure != nil:
		text, err := marshalFailure(failure)
		return append(text, '\n'), err
	case message != nil:
		text, err := m.message(message)
		return append(text, '\n'), err
	}
	return m.JSONPb.Marshal(v)
}

// message writes one message of a stream. A heartbeat is about nothing: it has no
// fields but its own and the id that the stream resumes after.
func (m *lines) message(message proto.Message) ([]byte, error) {
	if eventName(message) == heartbeat {
		return bare.Marshal(message)
	}
	return m.JSONPb.Marshal(message)
}

// NewDecoder reads a body. Only what checkBody has let through arrives here.
func (m *lines) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		text, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(text)) == 0 {
			return io.EOF
		}
		message, ok := v.(proto.Message)
		if !ok {
			return fmt.Errorf("a body cannot be read into %T", v)
		}
		if err := protojson.Unmarshal(text, message); err != nil {
			return fmt.Errorf("the body cannot be understood: %s", plain(err))
		}
		return nil
	})
}

// plain takes the prefix and the position off an error of protojson.
func plain(err error) string {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	text = strings.TrimPrefix(text, "proto: ")
	if strings.HasPrefix(text, "(line ") {
		if _, rest, found := strings.Cut(text, "): "); found {
			return rest
		}
	}
	return text
}

func rawType(body *httpbody.HttpBody) string {
	if body.GetContentType() == "" {
		return "application/octet-stream"
	}
	return body.GetContentType()
}

// unwrap takes a message of a stream out of the runtime's wrapping.
func unwrap(v any) (message proto.Message, failure *spb.Status) {
	switch chunk := v.(type) {
	case map[string]any:
		message, _ = chunk["result"].(proto.Message)
	case map[string]proto.Message:
		failure, _ = chunk["error"].(*spb.Status)
	}
	return message, failure
}

func marshalFailure(st *spb.Status) ([]byte, error) {
	return marshalError(rpc.FromError(status.ErrorProto(st)))
}

// events writes streams as Server-Sent Events, and everything else as lines does.
type events struct{ *lines }

func newEvents() *events { return &events{newLines()} }

// StreamContentType of a stream.
func (m *events) StreamContentType(v any) string {
	if _, ok := v.(*httpbody.HttpBody); ok {
		return m.lines.StreamContentType(v)
	}
	return eventStream
}

// Marshal writes one message of a stream as an event: its name is the field of
// the oneof that is set ("state" when none is), its data the whole message, as a
// line would be.
func (m *events) Marshal(v any) ([]byte, error) {
	message, failure := unwrap(v)
	switch {
	case failure != nil:
		text, err := marshalFailure(failure)
		return event("error", "", text), err
	case message == nil:
		return m.lines.Marshal(v)
	}
	text, err := m.message(message)
	return event(eventName(message), eventID(message), text), err
}

func eventName(message proto.Message) string {
	reflected := message.ProtoReflect()
	if oneof := reflected.Descriptor().Oneofs().ByName("event"); oneof != nil {
		if set := reflected.WhichOneof(oneof); set != nil {
			return string(set.Name())
		}
	}
	return "state"
}

// eventID is what a stream resumes after: the id that an event has itself, or the
// last line that an event of a tail accounts for.
func eventID(message proto.Message) string {
	if identified, ok := message.(interface{ GetId() string }); ok {
		return identified.GetId()
	}
	tail, ok := message.(*pb.StreamExecutionLogsResponse)
	switch {
	case !ok:
		return ""
	case tail.GetLine() != nil:
		return strconv.FormatInt(tail.GetLine().GetSeq(), 10)
	case tail.GetGap() != nil:
		return strconv.FormatInt(tail.GetGap().GetTo(), 10)
	}
	return ""
}

func event(name, id string, data []byte) []byte {
	var text bytes.Buffer
	if id != "" {
		fmt.Fprintf(&text, "id: %s\n", id)
	}
	fmt.Fprintf(&text, "event: %s\ndata: %s\n\n", name, data)
	return text.Bytes()
}
