package rpc

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/execution"
)

// domainTypes names, for every enumeration of the contract, the domain type whose
// constants are its words. Enumerations without a domain type say why.
var domainTypes = map[protoreflect.FullName]string{
	"Datasource.Type":                    "engine.Type",
	"Datasource.Status":                  "datasource.Status",
	"StorageLocation.Type":               "location.Type",
	"StorageLocation.Status":             "location.Status",
	"BackupOptions.Compression":          "backup.Compression",
	"BackupOptions.StorageStrategy":      "backup.Strategy",
	"BackupOptions.Spool":                "backup.Spool",
	"BackupOptions.MissedRun":            "backup.MissedRun",
	"Backup.Copy.Status":                 "backup.LiveStatus",
	"Execution.Status":                   "execution.Status",
	"Execution.Operation":                "execution.Operation",
	"Execution.Trigger":                  "execution.Trigger",
	"LogLine.Level":                      "engine.Level",
	"Notification.Type":                  "notification.Type",
	"Notification.Severity":              "notification.Severity",
	"Notification.EntityType":            "notification.EntityType",
	"NotificationDelivery.Status":        "notification.DeliveryStatus",
	"NotificationChannelType.Field.Kind": "notification.FieldKind",
	"DatasourceHealthEntry.Status":       "health.Outcome",
	"Health.Workers.State":               "health.WorkerState",
	"Reach.Kind":                         "", // a declaration, see server
	"Access.Role":                        "", // a rank in the domain, see TestEveryRole
	"TestResult.Status":                  "", // whether there is an error
	"StorageHealthEntry.Status":          "", // whether the outcome is health.OK
	"Health.Status":                      "", // a boolean
	"Health.Services.State":              "", // a boolean
	"StorageFile.Kind":                   "", // a boolean
}

func TestEveryEnumerationHasTheWordsOfItsDomainType(t *testing.T) {
	seen := 0
	each := func(e protoreflect.EnumDescriptor) {
		seen++
		name := protoreflect.FullName(strings.TrimPrefix(string(e.FullName()), "dataguardian.v1."))
		domain, listed := domainTypes[name]
		require.True(t, listed, "enumeration %s is not listed", name)
		if domain == "" {
			return
		}
		var declared []string
		for i := range e.Values().Len() {
			if v := e.Values().Get(i); v.Number() != 0 {
				declared = append(declared, string(v.Name()))
			}
		}
		words := constantsOf(t, domain)
		slices.Sort(declared)
		slices.Sort(words)
		require.Equal(t, words, declared, "%s and %s", name, domain)
	}
	protoregistry.GlobalFiles.RangeFilesByPackage("dataguardian.v1", func(f protoreflect.FileDescriptor) bool {
		eachEnum(f.Enums(), f.Messages(), each)
		return true
	})
	require.Equal(t, len(domainTypes), seen)
}

func eachEnum(enums protoreflect.EnumDescriptors, messages protoreflect.MessageDescriptors, do func(protoreflect.EnumDescriptor)) {
	for i := range enums.Len() {
		do(enums.Get(i))
	}
	for i := range messages.Len() {
		eachEnum(messages.Get(i).Enums(), messages.Get(i).Messages(), do)
	}
}

// constantsOf reads the values of the string constants of a domain type from its
// source.
func constantsOf(t *testing.T, domain string) []string {
	t.Helper()
	pkg, name, _ := strings.Cut(domain, ".")
	dir := filepath.Join("..", "..", "internal", pkg)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	var words []string
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(gotoken.NewFileSet(), filepath.Join(dir, file.Name()), nil, 0)
		require.NoError(t, err)
		ast.Inspect(tree, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if typed, ok := spec.Type.(*ast.Ident); !ok || typed.Name != name {
				return true
			}
			for _, value := range spec.Values {
				if literal, ok := value.(*ast.BasicLit); ok && literal.Kind == gotoken.STRING {
					word, err := strconv.Unquote(literal.Value)
					require.NoError(t, err)
					words = append(words, word)
				}
			}
			return true
		})
	}
	require.NotEmpty(t, words, "%s has no constants", domain)
	return words
}

func TestWordsComeBackAsTheyWent(t *testing.T) {
	for _, word := range constantsOf(t, "execution.Status") {
		require.Equal(t, execution.Status(word), fromEnum[execution.Status](toEnum[pb.Execution_Status](word)))
	}
	require.Zero(t, toEnum[pb.Execution_Status](""))
	require.Zero(t, toEnum[pb.Execution_Status]("done"))
	require.Empty(t, fromEnum[execution.Status](pb.Execution_status_unspecified))
	require.Empty(t, fromEnum[execution.Status](pb.Execution_Status(99)))
}

func TestEveryRole(t *testing.T) {
	values := pb.Access_Role(0).Descriptor().Values()
	for i := range values.Len() {
		declared := pb.Access_Role(values.Get(i).Number())
		switch declared {
		case pb.Access_role_unspecified, pb.Access_anyone:
			require.Equal(t, auth.Nobody, roleFrom(declared))
		default:
			role, ok := auth.ParseRole(declared.String())
			require.True(t, ok)
			require.Equal(t, role, roleFrom(declared))
			require.Equal(t, declared, toRole(role))
		}
	}
}

func TestEveryStateOfACopyHasAWordOfTheContract(t *testing.T) {
	for _, word := range constantsOf(t, "backup.CopyStatus") {
		require.Contains(t, []string{"available", "failed", "pending", "deleted"}, copyWords[backup.CopyStatus(word)], word)
	}
	for _, word := range constantsOf(t, "execution.Operation") {
		require.Contains(t, []string{"full", "restore", "verify"}, backupTypes[execution.Operation(word)], word)
	}
}
