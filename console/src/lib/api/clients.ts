import { createClient } from "@connectrpc/connect";
import { AuditService } from "@tollgate/audit_pb.js";
import { AuthService } from "@tollgate/auth_pb.js";
import { LimitsService } from "@tollgate/limits_pb.js";
import { OverviewService } from "@tollgate/overview_pb.js";
import { ResourcesService } from "@tollgate/resources_pb.js";
import { RolesService } from "@tollgate/roles_pb.js";
import { RoutesService } from "@tollgate/routes_pb.js";
import { transport } from "./transport";

export const audit = createClient(AuditService, transport);
export const auth = createClient(AuthService, transport);
export const limits = createClient(LimitsService, transport);
export const overview = createClient(OverviewService, transport);
export const resources = createClient(ResourcesService, transport);
export const roles = createClient(RolesService, transport);
export const routes = createClient(RoutesService, transport);
