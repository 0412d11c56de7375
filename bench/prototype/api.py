from common import *; from aiohttp import web; import hashlib, hmac
BUNDLE=int(os.environ.get("BUNDLE","100"))
async def app():
    pool=await asyncpg.create_pool(DSN,min_size=4,max_size=4); nc=await nats.connect(NATS); js=nc.jetstream(publish_async_max_pending=50000)
    try: await js.delete_stream("SMS")
    except Exception: pass
    await js.add_stream(name="SMS",subjects=["sms.send.>","sms.receipt.>"],retention="workqueue")
    async def flush(rows):
        async with pool.acquire() as c:
            ok={r[0] for r in await c.fetch("select accept_batch($1,$2,$3,$4,$5,$6,$7)",*map(list,zip(*[(r[5],r[0],r[1],r[2],r[3],r[4],500) for r in rows])))}
        rows=[r for r in rows if r[0] in ok]
        for k in range(0,len(rows),BUNDLE): await js.publish_async("sms.send.normal",orjson.dumps([[r[0].hex,r[1],r[2]] for r in rows[k:k+BUNDLE]]))
    b=Batcher(flush,lanes=2)
    async def post(r):
        raw=await r.read(); d=orjson.loads(raw); hmac.digest(b"x",r.headers["X-API-Key"].encode(),"sha256")
        key=r.headers.get("Idempotency-Key") or os.urandom(8).hex(); i=uuid7()
        await b.submit((i,d["to"],d["text"],key,hashlib.sha256(raw).digest(),client(int(d["to"][-6:]))))
        return web.Response(body=orjson.dumps({"id":str(i),"status":"QUEUED","to":d["to"],"segments":1,"price":{"amount":"0.0005","currency":"EUR"}}),status=202,content_type="application/json")
    a=web.Application(); a.router.add_post("/v1/messages",post); return a
uvloop.install(); web.run_app(app(),port=PORT["API"],host="127.0.0.1",access_log=None,print=None,backlog=2048)
