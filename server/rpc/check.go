package rpc

import (
	"google.golang.org/protobuf/proto"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/location"
)

// CheckSettings says what the domain refuses in the free-form settings of a
// request. Its handler says so, too; this is for a request that is refused before
// it gets there, so that one answer names every bad field.
func CheckSettings(req proto.Message) error {
	switch m := req.(type) {
	case *pb.CreateDatasourceRequest:
		if m.GetType() == 0 || m.GetConnectionConfig() == nil {
			return nil
		}
		var n datasource.New
		setWord(&n.Type, m.GetType())
		_, err := datasource.ParseConfig(n.Type, m.GetConnectionConfig().AsMap())
		return err
	case *pb.CreateStorageLocationRequest:
		if m.GetConfig() == nil {
			return nil
		}
		_, err := location.CheckConfig(fromEnum[location.Type](m.GetType()), m.GetConfig().AsMap())
		return err
	}
	return nil
}
