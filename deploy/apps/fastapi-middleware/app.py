"""A middleware app as the Databricks documentation teaches it. Nothing in it knows of the relay."""

import asyncio
import os
from typing import Annotated, Any, AsyncIterator

from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import DatabricksError, PermissionDenied, Unauthenticated
from databricks.sdk.service.sql import ExecuteStatementRequestOnWaitTimeout, StatementState
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

app = FastAPI()


def workspace(x_forwarded_access_token: Annotated[str | None, Header()] = None) -> WorkspaceClient:
    """The workspace as the person sees it."""
    if not x_forwarded_access_token:
        raise HTTPException(401, "the request has no x-forwarded-access-token")
    # auth_type keeps the SDK from mixing in the app's own service principal.
    return WorkspaceClient(host=os.environ["DATABRICKS_HOST"], token=x_forwarded_access_token, auth_type="pat")


Workspace = Annotated[WorkspaceClient, Depends(workspace)]


def groups_of(w: Workspace) -> list[str]:
    return sorted(g.display or "" for g in w.current_user.me().groups or [])


Groups = Annotated[list[str], Depends(groups_of)]


def only(group: str) -> Any:
    """Lets the members of a group pass."""

    def check(groups: Groups) -> None:
        if group not in groups:
            raise HTTPException(403, f"for {group} only")

    return Depends(check)


@app.exception_handler(DatabricksError)
def workspace_refuses(_: Request, error: DatabricksError) -> JSONResponse:
    status = {Unauthenticated: 401, PermissionDenied: 403}.get(type(error), 502)
    return JSONResponse({"detail": f"the workspace refuses: {error}"}, status_code=status)


@app.get("/me")
def me(w: Workspace, x_forwarded_email: Annotated[str | None, Header()] = None) -> dict[str, str | None]:
    who = w.current_user.me()
    return {"user": who.user_name, "name": who.display_name, "email": x_forwarded_email}


@app.get("/groups")
def groups(groups: Groups) -> list[str]:
    return groups


@app.get("/report", dependencies=[only("data-admins")])
def report() -> dict[str, int]:
    return {"rows": 42}


class Query(BaseModel):
    statement: str


@app.post("/sql")
def sql(query: Query, w: Workspace) -> dict[str, list]:
    """Runs a statement as the person: Unity Catalog decides what it returns."""
    answer = w.statement_execution.execute_statement(
        query.statement, os.environ["DATABRICKS_WAREHOUSE_ID"],
        wait_timeout="50s", on_wait_timeout=ExecuteStatementRequestOnWaitTimeout.CANCEL,  # else it would go on, unseen
    )
    if not answer.status or answer.status.state != StatementState.SUCCEEDED:
        fault = answer.status and answer.status.error
        raise HTTPException(400, fault.message if fault else "the statement has not ended in time, and was canceled")
    columns = answer.manifest.schema.columns if answer.manifest and answer.manifest.schema else None
    rows, part = [], answer.result
    while part:  # a long result comes in parts
        rows += part.data_array or []
        part = part.next_chunk_index and w.statement_execution.get_statement_result_chunk_n(answer.statement_id, part.next_chunk_index)
    return {"columns": [c.name for c in columns or []], "rows": rows}


@app.get("/stream")
def stream(w: Workspace, groups: Groups) -> StreamingResponse:
    """Server-sent events, a word each."""
    text = f"""Hello {w.current_user.me().display_name}. The workspace says that you are in {" and ".join(groups)}.
        I asked it with your own token, so what I find for you is what you may see, and nothing else."""

    async def words() -> AsyncIterator[str]:
        for word in text.split():
            yield f"data: {word}\n\n"
            await asyncio.sleep(0.1)

    return StreamingResponse(words(), media_type="text/event-stream")
