package grpcapi

import (
	"context"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/guard"
	"github.com/tollgatehq/tollgate/server/internal/httpapi"
	"github.com/tollgatehq/tollgate/server/internal/metrics"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha" // which older tools know
)

const healthCheck = grpc_health_v1.Health_Check_FullMethodName

// health answers probes, which have places of their own.
func (s *Server) health(c *call) error {
	asked := &grpc_health_v1.HealthCheckRequest{}
	if err := s.read(c, asked); err != nil {
		return s.refuse(c, err)
	}
	c.wait(running, s.waits.answer)
	res, err := s.place(c, s.options.Shares.Probes, func(ctx context.Context) (connect.AnyResponse, error) {
		found, err := s.options.Health.Check(ctx, &grpchealth.CheckRequest{Service: asked.GetService()})
		if err != nil {
			return nil, err
		}
		return &response{message: &grpc_health_v1.HealthCheckResponse{
			Status: grpc_health_v1.HealthCheckResponse_ServingStatus(found.Status),
		}}, nil
	})
	if err != nil {
		return s.refuse(c, err)
	}
	return s.answer(c, nil, res.Any())
}

// unknown answers for what there is not.
func (s *Server) unknown(c *call) error {
	return s.refuse(c, httpapi.UnknownRPC())
}

// listed are the services that reflection shows.
type listed struct{}

func (listed) GetServiceInfo() map[string]grpc.ServiceInfo {
	all := map[string]grpc.ServiceInfo{}
	for _, name := range contract.ServiceNames() {
		all[name] = grpc.ServiceInfo{}
	}
	return all
}

// registerReflection adds both versions of the service that lets tools list and
// describe the API.
func (s *Server) registerReflection() {
	options := reflection.ServerOptions{Services: listed{}}
	s.registerTool(reflectionv1.ServerReflection_ServiceDesc, reflection.NewServerV1(options))
	s.registerTool(reflectionv1alpha.ServerReflection_ServiceDesc, reflection.NewServer(options))
}

func (s *Server) registerTool(desc grpc.ServiceDesc, server any) {
	for i, stream := range desc.Streams {
		stream.Handler = s.contained(s.reflect("/"+desc.ServiceName+"/"+stream.StreamName, server, stream.Handler))
		desc.Streams = append([]grpc.StreamDesc(nil), desc.Streams...)
		desc.Streams[i] = stream
	}
	s.server.RegisterService(&desc, server)
}

// reflect bounds a reflection stream, in number, memory and time.
func (s *Server) reflect(procedure string, server any, handler grpc.StreamHandler) func(*call) error {
	return func(c *call) error {
		c.wait(running, s.waits.reflection)
		c.message = httpapi.MaxBody
		if !c.lease.Grow(streamWindow + c.message) {
			return s.refuse(c, errMemory)
		}
		if !s.options.Shares.Reflection.Acquire(c.client, 1) {
			s.options.Refused(metrics.RefusedStreams, nil)
			return s.refuse(c, httpapi.Overloaded())
		}
		defer s.options.Shares.Reflection.Release(c.client, 1)
		if err := s.signedIn(c, procedure); err != nil {
			return s.refuse(c, err)
		}
		if err := c.sendHeader(nil); err != nil {
			return err
		}
		return handler(server, &boundedStream{c.stream, c})
	}
}

// signedIn lets only callers with a good credential pass, unless tools are public.
func (s *Server) signedIn(c *call, procedure string) error {
	if s.options.PublicTools {
		return nil
	}
	credential, err := guard.Bearer(c.requestHeader())
	if err != nil {
		return err
	}
	limits := map[string][]string{}
	_, err = s.options.Guard.AdmitCredential(caller.With(c, c.origin), procedure,
		decision.Rule{AnyUser: true, Action: contract.ActionReflection}, credential, limits)
	if err != nil {
		return fault.Connect(fault.Of(c, err), c.origin.RequestID)
	}
	return nil
}

// boundedStream counts what reflection sends against its caller's memory.
type boundedStream struct {
	grpc.ServerStream
	call *call
}

// SendMsg sends a message.
func (b *boundedStream) SendMsg(message any) error { return b.call.send(message) }
