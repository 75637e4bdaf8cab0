package access

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/cli/protoyaml"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
)

const head = `# Roles, limits, routes and recordings of a Tollgate server: tollgate plan -f FILE, tollgate apply -f FILE.
# yaml-language-server: $schema=access.schema.json
`

// Export writes what a server has as a file that changes nothing there. The roles that
// came with Tollgate, which cannot be changed, are left out. With assignments it has
// who holds which role, too.
func Export(ctx context.Context, server *Server, w io.Writer, assignments bool) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	section := func(kind Kind, objects []*yaml.Node) {
		list := &yaml.Node{Kind: yaml.SequenceNode, Content: objects}
		if len(objects) == 0 {
			list.Style = yaml.FlowStyle
		}
		root.Content = append(root.Content, protoyaml.Text(string(kind)), list)
	}
	all, err := server.roles(ctx)
	if err != nil {
		return err
	}
	var nodes []*yaml.Node
	for _, r := range all {
		if !r.GetBuiltin() {
			if nodes, err = appendSpec(ctx, server, nodes, r); err != nil {
				return err
			}
		}
	}
	section(Roles, nodes)
	limits, err := server.limits(ctx)
	if err != nil {
		return err
	}
	nodes = nil
	for _, l := range limits {
		if nodes, err = appendSpec(ctx, server, nodes, l); err != nil {
			return err
		}
	}
	section(Limits, nodes)
	routes, err := server.routes(ctx)
	if err != nil {
		return err
	}
	nodes = nil
	for _, r := range routes {
		if nodes, err = appendSpec(ctx, server, nodes, r); err != nil {
			return err
		}
	}
	section(Routes, nodes)
	recordings, err := server.recordings(ctx)
	if err != nil {
		return err
	}
	nodes = nil
	for _, r := range recordings {
		if nodes, err = appendSpec(ctx, server, nodes, r); err != nil {
			return err
		}
	}
	section(Recordings, nodes)
	if assignments {
		if nodes, err = holders(ctx, server, all); err != nil {
			return err
		}
		section(Assignments, nodes)
	}
	text, err := protoyaml.Encode(root)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, io.MultiReader(strings.NewReader(head), bytes.NewReader(text)))
	return err
}

func appendSpec(ctx context.Context, server *Server, nodes []*yaml.Node, object proto.Message) ([]*yaml.Node, error) {
	spec, err := server.spec(ctx, object)
	if err != nil {
		return nil, err
	}
	return append(nodes, protoyaml.Node(trim(spec).ProtoReflect())), nil
}

// trimDefaults drops what the server would fill in.
func trimDefaults(m proto.Message) {
	switch m := m.(type) {
	case *tollgatev1.CreateRoleRequest:
		for _, g := range m.GetGrants() {
			if g.GetEffect() == tollgatev1.Effect_EFFECT_ALLOW {
				g.Effect = 0
			}
		}
	case *tollgatev1.CreateRecordingRequest:
		if m.GetSample() == allCalls {
			m.Sample = 0
		}
	case *tollgatev1.CreateLimitRequest:
		if m.GetAlgorithm() == tollgatev1.Algorithm_ALGORITHM_GCRA {
			m.Algorithm = 0
		}
		if m.GetMode() == tollgatev1.Mode_MODE_ENFORCE {
			m.Mode = 0
		}
		if m.GetOutage() == tollgatev1.Outage_OUTAGE_LOCAL {
			m.Outage = 0
		}
		if m.GetBurst() == m.GetRate() {
			m.Burst = 0
		}
		for _, o := range m.GetOverrides() {
			if o.GetBurst() == o.GetRate() {
				o.Burst = 0
			}
		}
	}
}

// holders are the assignments of all users, by name.
func holders(ctx context.Context, server *Server, all []*tollgatev1.Role) ([]*yaml.Node, error) {
	held := map[string][]*tollgatev1.RoleMember{}
	for _, r := range all {
		members, err := server.members(ctx, r.GetName())
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			held[m.GetUsername()] = append(held[m.GetUsername()], m)
		}
	}
	names := make([]string, 0, len(held))
	for name := range held {
		names = append(names, name)
	}
	slices.Sort(names)
	var nodes []*yaml.Node
	for _, name := range names {
		roles := &yaml.Node{Kind: yaml.SequenceNode}
		for _, m := range held[name] {
			roles.Content = append(roles.Content, holdNode(m))
		}
		nodes = append(nodes, &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{
			protoyaml.Text("user"), protoyaml.Text(name), protoyaml.Text("roles"), roles,
		}})
	}
	return nodes, nil
}

func holdNode(m *tollgatev1.RoleMember) *yaml.Node {
	if m.GetExpiresAt() == nil {
		return protoyaml.Text(m.GetRole())
	}
	return protoyaml.Node(hold(m.GetRole(), "", m.GetExpiresAt()).ProtoReflect())
}
